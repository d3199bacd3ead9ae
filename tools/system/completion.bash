# SPDX-License-Identifier: GPL-2.0-or-later
# Completion for mirrorctl, mirrorfs, mkfs.mirrorfs and fsck.mirrorfs in bash. It needs bash alone: readline breaks
# words at "=" and ":", so what was typed is read from the line, and only the part behind the break is answered.

_mirrorfs_typed()
{
	local line=${COMP_LINE:0:COMP_POINT}

	printf '%s' "${line##*[[:space:]]}"
}

# _mirrorfs_reply TYPED WORDS: words that begin so; what ends with "=" goes on.
_mirrorfs_reply()
{
	mapfile -t COMPREPLY < <(compgen -W "$2" -- "$1")
	[[ ${COMPREPLY[*]-} != *= ]] || compopt -o nospace 2>/dev/null
}

_mirrorfs_paths()
{
	compopt -o filenames 2>/dev/null
	mapfile -t COMPREPLY < <(compgen -f -- "$1")
}

# A leg: a path, or the name of a volume as udev knows it.
_mirrorfs_legs()
{
	case $1 in
	UUID=*) _mirrorfs_reply "${1#*=}" "$(cd /dev/disk/by-uuid 2>/dev/null && printf '%s\n' *)" ;;
	LABEL=*) _mirrorfs_reply "${1#*=}" "$(cd /dev/disk/by-label 2>/dev/null && printf '%s\n' *)" ;;
	U* | L*)
		_mirrorfs_reply "$1" 'UUID= LABEL='
		((${#COMPREPLY[@]})) || _mirrorfs_paths "$1"
		;;
	*) _mirrorfs_paths "$1" ;;
	esac
}

_mirrorfs_mounts()
{
	_mirrorfs_reply "$1" "$(sed -nE 's/^([^ ]+ ){4}([^ ]+) .* - fuse(blk)?\.mirrorfs .*/\2/p' /proc/self/mountinfo)"
}

# The last of the words behind -o.
_mirrorfs_mount_options()
{
	local last=${1##*,} value=${1##*=}
	local words='ro rw degraded takeover heartbeat= wait= leg= commit= cache= blkdev network discard engine=
		transport= cpu-latency= poll= errors= read-policy= write-mostly= leg-timeout= deadline= notify= iolog=
		iolog-msec= suid nosuid dev nodev exec noexec async sync dirsync atime noatime relatime norelatime
		strictatime nostrictatime diratime nodiratime lazytime nolazytime'

	case $last in
	engine=*) _mirrorfs_reply "$value" 'auto uring threads' ;;
	transport=*) _mirrorfs_reply "$value" 'auto uring classic' ;;
	cpu-latency=*) _mirrorfs_reply "$value" 'auto off 0' ;;
	poll=*) _mirrorfs_reply "$value" 0 ;;
	errors=*) _mirrorfs_reply "$value" ro ;;
	read-policy=*) _mirrorfs_reply "$value" 'auto round-robin leg0 leg1' ;;
	write-mostly=*) _mirrorfs_reply "$value" '0 1' ;;
	leg=* | iolog=* | notify=*) _mirrorfs_paths "$value" ;;
	*=*) ;;
	*)
		value=${1%"$last"}
		mapfile -t COMPREPLY < <(compgen -P "${value##*=}" -W "$words" -- "$last")
		compopt -o nospace 2>/dev/null
		;;
	esac
}

_mirrorfs()
{
	local typed behind='[[:space:]](-o|--options)[[:space:]]+[^[:space:]]*$'

	typed=$(_mirrorfs_typed)
	COMPREPLY=()
	if [[ ${COMP_LINE:0:COMP_POINT} =~ $behind ]]; then
		_mirrorfs_mount_options "$typed"
	elif [[ $typed == -* ]]; then
		_mirrorfs_reply "$typed" '-o --options -f --foreground -d --debug -h --help -V --version'
	else
		_mirrorfs_legs "$typed"
	fi
}

_mirrorfs_mkfs()
{
	local typed

	typed=$(_mirrorfs_typed)
	COMPREPLY=()
	case ${COMP_WORDS[COMP_CWORD - 1]} in
	-L | --label | -s | --size) return ;;
	esac
	if [[ $typed == -* ]]; then
		_mirrorfs_reply "$typed" '-L --label -s --size -f --force --shared -h --help -V --version'
	else
		_mirrorfs_paths "$typed"
	fi
}

_mirrorfs_fsck()
{
	local typed

	typed=$(_mirrorfs_typed)
	COMPREPLY=()
	if [[ $typed == -* ]]; then
		_mirrorfs_reply "$typed" '-n -p -a -y -f --force --data --takeover -C -T -l -M -h --help -V --version'
	else
		_mirrorfs_legs "$typed"
	fi
}

_mirrorfs_ctl()
{
	local typed words=() word
	local verbs='status stats top report drop-caches events scrub resync detach attach replace grow trim set
		umount drill'

	typed=$(_mirrorfs_typed)
	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || words+=("$word")
	done
	if [[ $typed == -* ]]; then
		_mirrorfs_reply "$typed" '-f --force --follow --files --prometheus -j --json -h --help -V --version'
		return
	fi
	case ${#words[@]}:${words[0]-} in
	0:*) _mirrorfs_reply "$typed" "$verbs" ;;
	1:*) _mirrorfs_mounts "$typed" ;;
	2:scrub) _mirrorfs_reply "$typed" 'start stop limit=' ;;
	3:scrub | 2:resync) _mirrorfs_reply "$typed" limit= ;;
	2:set) _mirrorfs_reply "$typed" 'label= read-policy= write-mostly= shared=' ;;
	2:drill) _mirrorfs_reply "$typed" '0 1' ;;
	3:drill) _mirrorfs_reply "$typed" 'off read,hang read,error=EIO write,error=EIO read,corrupt' ;;
	2:detach | 2:replace)
		_mirrorfs_reply "$typed" '0 1'
		((${#COMPREPLY[@]})) || _mirrorfs_paths "$typed"
		;;
	2:attach | 2:report | 3:replace) _mirrorfs_paths "$typed" ;;
	esac
}

complete -F _mirrorfs mirrorfs
complete -F _mirrorfs_mkfs mkfs.mirrorfs
complete -F _mirrorfs_fsck fsck.mirrorfs
complete -F _mirrorfs_ctl mirrorctl
