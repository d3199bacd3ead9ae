# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of Linux that Python does not have."""
import ctypes
import errno
import fcntl
import os
import struct

libc = ctypes.CDLL(None, use_errno=True)

AT_FDCWD, AT_SYMLINK_NOFOLLOW, AT_SYMLINK_FOLLOW = -100, 0x100, 0x400
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4
STATX_BTIME = 0x800


def fails_with(number, function, *arguments, **named):
    try:
        function(*arguments, **named)
    except OSError as error:
        assert error.errno == number, f"{os.strerror(error.errno)} instead of {os.strerror(number)}"
    else:
        raise AssertionError(f"no error where {os.strerror(number)} was expected")


def checked(result, what):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def renameat2(source, target, flags):
    checked(libc.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), flags), source)


def tmpfile(folder, flags=os.O_RDWR, mode=0o600):
    return os.open(folder, os.O_TMPFILE | flags, mode)


def give_name(fd, name):
    source = os.fsencode(f"/proc/self/fd/{fd}")
    checked(libc.linkat(AT_FDCWD, source, AT_FDCWD, os.fsencode(name), AT_SYMLINK_FOLLOW), name)


def clone(source, target):
    fcntl.ioctl(target, 0x40049409, source)


def birth_ns(path):
    """When the file was made, or None."""
    buffer = ctypes.create_string_buffer(256)
    checked(libc.statx(AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW, STATX_BTIME, buffer), path)
    mask, = struct.unpack_from("<I", buffer.raw, 0)
    seconds, nanoseconds = struct.unpack_from("<qI", buffer.raw, 80)
    return seconds * 10**9 + nanoseconds if mask & STATX_BTIME else None


def getxattr_with(path, name, size):
    """The length of the value, or -errno if it does not fit."""
    got = libc.getxattr(os.fsencode(path), os.fsencode(name), ctypes.create_string_buffer(size), size)
    return got if got >= 0 else -ctypes.get_errno()


def as_user(uid, function, *arguments, groups=()):
    """Runs the function in a process of that user (its group has the same number): its result, None or an errno."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        status = 255
        try:
            os.setgroups(groups)
            os.setgid(uid)
            os.setuid(uid)
            function(*arguments)
            status = 0
        except OSError as error:
            status = error.errno
        except BaseException as error:  # a child that must not return into the tests
            os.write(writer, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        told = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status != 255, told.decode()
    return status


def user_fails_with(number, uid, function, *arguments, **more):
    got = as_user(uid, function, *arguments, **more)
    assert got == number, f"{errno.errorcode.get(got, got)} instead of {errno.errorcode.get(number, number)}"


ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
TAGS = {"u:": 1, "u": 2, "g:": 4, "g": 8, "m:": 16, "o:": 32}


def acl(text):
    """The bytes of an access control list: "u::rwx u:1000:r-- g::r-x m::rwx o::---"."""
    entries = []
    for word in text.split():
        who, qualifier, permissions = word.split(":")
        tag = TAGS[who if qualifier else who + ":"]
        bits = sum(bit for letter, bit in zip("rwx", (4, 2, 1)) if letter in permissions)
        entries.append(struct.pack("<HHI", tag, bits, int(qualifier) if qualifier else 0xffffffff))
    return struct.pack("<I", 2) + b"".join(entries)
