# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Functions for tools/quickstart and tests/run; to be sourced. Reads the table beside it, tools/packages.

packages_table=$(dirname "${BASH_SOURCE[0]}")/packages

# packages_for USE...: the packages that serve one of the uses, one a line.
packages_for()
{
	awk -v uses="$*" '
		BEGIN { n = split(uses, wanted, " ") }
		/^#/ || !NF { next }
		{ for (i = 1; i <= n; i++) if (("," $2 ",") ~ ("," wanted[i] ",")) { print $1; next } }
	' "$packages_table"
}

# packages_missing USE...: those of them that are not installed, on one line.
packages_missing()
{
	local name missing=()

	for name in $(packages_for "$@"); do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || missing+=("$name")
	done
	echo "${missing[*]}"
}

# packages_need USE...: root installs what is missing; anyone else is told the one line to run. Returns 2 if something
# stays missing.
packages_need()
{
	local missing line log

	if ! command -v dpkg-query >/dev/null; then
		echo "This is not a Debian system: make sure of the like of $(packages_for "$@" | tr '\n' ' ')" >&2
		return 0
	fi
	missing=$(packages_missing "$@")
	[[ -z $missing ]] && return 0
	line="apt-get install -y --no-install-recommends $missing"
	if ((EUID != 0)); then
		echo "Some packages are missing. As root, run:" >&2
		echo "$line" >&2
		return 2
	fi
	echo "Installing: $missing"
	log=$(mktemp)
	# The lists of a fresh system are empty, those of an old one name versions that are gone: so update first.
	# shellcheck disable=SC2086 # words of a package list
	if (export DEBIAN_FRONTEND=noninteractive && apt-get update -q && $line) >"$log" 2>&1; then
		rm -f "$log"
		return 0
	fi
	tail -n 20 "$log" >&2
	rm -f "$log"
	echo "The packages could not be installed. Run:" >&2
	echo "apt-get update && $line" >&2
	return 2
}

# fuse_ready: true if this user can mount and unmount. For root it makes the device as udev would, and /etc/mtab,
# without which fusermount3 unmounts for nobody but root: in a bare chroot nobody did.
fuse_ready()
{
	if ((EUID == 0)); then
		[[ -e /dev/fuse ]] || { modprobe fuse || mknod /dev/fuse c 10 229; } 2>/dev/null
		[[ -e /dev/fuse ]] && chmod 0666 /dev/fuse
		[[ -e /etc/mtab ]] || ln -sf ../proc/self/mounts /etc/mtab
	fi
	[[ -e /etc/mtab ]] && { : <>/dev/fuse; } 2>/dev/null
}
