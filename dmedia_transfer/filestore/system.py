"""What the FileStore asks of Linux, and what Linux's errors mean for a transfer."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dmedia_transfer.errors import AccessDenied, DiskFull, Permanent, StoreMissing, TransferError, Transient

_FICLONE: Final = 0x40049409  # linux/fs.h; not in Python's fcntl before 3.14
_FICLONERANGE: Final = 0x4020940D
_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME, _STATX_MNT_ID_UNIQUE = 0x0800, 0x4000  # linux/stat.h; the second one came with Linux 6.8
_STATX_DIOALIGN: Final = 0x2000  # Linux 6.1
_STATX_BYTES, _BTIME_AT, _MNT_ID_AT, _DIO_ALIGN_AT = 256, 0x50, 0x90, 0x98
_SYNC_FILE_RANGE_WRITE: Final = 2  # linux/fs.h
_SYNCFS_TELLS_ERRORS: Final = (5, 8)  # the Linux from which on it does

WRITE_BYTES: Final = 64 * 1024  # in one call

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})
_SHORT_OF: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR})
_NO_CLONE: Final = frozenset(
    {errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ETXTBSY}
)
_NO_FALLOCATE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_STATFS_BYTES: Final = 256  # statfs(2): more than the structure has
_BTRFS: Final = 0x9123683E  # linux/magic.h
_SYNCFS_IS_ENOUGH: Final = frozenset(  # ext2 to ext4, XFS, Btrfs, F2FS, bcachefs, tmpfs
    {0xEF53, 0x58465342, _BTRFS, 0xF2F52010, 0xCA451A4E, 0x01021994}
)

_libc: Final = ctypes.CDLL(None, use_errno=True)


def storage_error(error: OSError, doing: str) -> TransferError:
    """The error of a transfer that `error` means; `doing` says what was being done to what.

    What is neither a full disk nor a right that we lack is a drive that went away or fails (EIO, ENODEV, ESTALE,
    ENXIO, ENOTCONN, and EROFS, to which a file system turns itself when its device fails).
    """
    sentence = f"{doing}: {error.strerror or error}"
    if error.errno in _FULL:
        return DiskFull(sentence)
    if error.errno in _DENIED:
        return AccessDenied(sentence)
    if error.errno in _SHORT_OF:
        return Transient(sentence)
    if error.errno == errno.EFBIG:
        return Permanent(f"{sentence} for this file system")
    return StoreMissing(sentence)


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an OSError into the error of a transfer that it means."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, doing) from error


@functools.cache
def boot_id() -> str:
    """Changes with every start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def mount_id(fd: int) -> tuple[str, bool]:
    """The mount that an open file is on, and whether that ID is never used again.

    Linux gives the ID of a mount that is gone to the next one, until 6.8 brought IDs that are not used again.
    """
    mask, buffer = _statx(fd, _STATX_MNT_ID_UNIQUE)
    if mask & _STATX_MNT_ID_UNIQUE:
        return str(struct.unpack_from("=Q", buffer, _MNT_ID_AT)[0]), True
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        if line.startswith("mnt_id:"):
            return line.split()[1], False
    return "?", False


def is_root_device(device: int) -> bool:
    """Whether this is the device of the root file system."""
    return device == Path("/").stat().st_dev


def birth_time(fd: int) -> str | None:
    """When the inode was made, where the file system knows: tells a file from a later one with its inode number."""
    mask, buffer = _statx(fd, _STATX_BTIME)
    if not mask & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", buffer, _BTIME_AT)
    return f"{seconds}.{nanoseconds:09}"


def takes_direct(fd: int, alignment: int) -> bool:
    """Whether the file system says that it takes writes past the page cache, of memory and offsets so aligned."""
    mask, buffer = _statx(fd, _STATX_DIOALIGN)
    if not mask & _STATX_DIOALIGN:
        return False
    wanted = struct.unpack_from("=II", buffer, _DIO_ALIGN_AT)  # in memory, in the file; 0: it takes none
    return all(0 < each <= alignment and alignment % each == 0 for each in wanted)


def is_btrfs(fd: int) -> bool:
    """Whether an open file is on a Btrfs."""
    return _kind(fd) == _BTRFS


def _kind(fd: int) -> int | None:
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(fd, buffer):
        return None
    return int(struct.unpack_from("@l", buffer)[0]) & 0xFFFFFFFF


def _statx(fd: int, mask: int) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(fd, b"", _AT_EMPTY_PATH, ctypes.c_uint(mask), buffer):
        return 0, b""
    return struct.unpack_from("=I", buffer)[0], buffer.raw


def preallocate(fd: int, size: int) -> None:
    """Give the file `size` bytes of room on its disk; only the length, where the file system cannot do more.

    It is fallocate(2) itself, as glibc's posix_fallocate writes into every block where it is not supported (exFAT,
    NFS 3), which for a film takes as long as the download.

    Raises:
        OSError: ENOSPC above all.
    """
    while _libc.fallocate64(fd, 0, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        if number in _NO_FALLOCATE:
            os.ftruncate(fd, size)
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def clone(source: int, target: int) -> bool:
    """Make `target` share the blocks of `source`; False where the file systems cannot."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def clone_range(source: int, target: int, start: int, size: int) -> bool:
    """Make a slice of `target` share the blocks of the same slice of `source`; False where the file systems cannot.

    `start` is a multiple of the block size, and so is `size`, unless the slice ends with the source.
    """
    try:
        fcntl.ioctl(target, _FICLONERANGE, struct.pack("=qQQQ", source, start, size, start))
    except OSError as error:
        if error.errno in _NO_CLONE:
            return False
        raise
    return True


def copy_range(source: int, target: int, start: int, size: int) -> bool:
    """Have the file system copy a slice of `source` to the same place in `target`; False where it cannot.

    Only within one file system: a server copies by itself then, and a disk that hangs holds up nothing that another
    disk could do. What was copied is to be read back.
    """
    if os.fstat(source).st_dev != os.fstat(target).st_dev:
        return False
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done, start + done, start + done)
        except OSError as error:
            if error.errno in _NO_CLONE:
                return False
            raise
        if not count:  # the source ends before
            return False
        done += count
    return True


def lock(fd: int) -> bool:
    """Take the exclusive lock of an open file, without waiting; False if somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_at(fd: int, name: str, root: int) -> bool:
    """Whether the open file is the one that has this name below the directory `root`."""
    return status_at(fd, name, root) is not None


def status_at(fd: int, name: str, root: int) -> os.stat_result | None:
    """The status of the open file, if it is the one that has this name below the directory `root`."""
    try:
        there = os.stat(name, dir_fd=root, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return there if os.path.samestat(there, os.fstat(fd)) else None


def read_at(fd: int, start: int, into: memoryview) -> int:
    """Fill `into` from offset `start`; how many bytes there were, less only at the end of the file."""
    got = 0
    while got < len(into):
        count = os.preadv(fd, [into[got:]], start + got)
        if not count:
            break
        got += count
    return got


def write_at(fd: int, start: int, data: memoryview) -> None:
    """Write all of `data` at offset `start`, in pieces.

    Linux takes memory for its page cache in blocks as large as the piece, where the file system has large folios. The
    largest are those that a virtual machine has given back to its host, and has to get from there again: 1 GiB cost
    2.4 s of CPU with 8 MiB at once and 0.25 s with pieces; on memory that is at hand both cost 0.2 s.
    """
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done : done + WRITE_BYTES], start + done)


def start_writing(fd: int, start: int, size: int) -> None:
    """Have a slice of a file written to its disk from now on, so that a sync later has less to wait for.

    Nothing is promised, so nothing is an error: what goes wrong is told by the sync.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)


@functools.cache
def syncfs_tells_errors() -> bool:
    """Whether syncfs(2) tells that something could not be written."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return (int(major), int(minor)) >= _SYNCFS_TELLS_ERRORS


def syncs_together(root: int) -> bool:
    """Whether many files are synced at once by syncing their file system, the one that `root` is on.

    Older Linux does not tell what failed, and of file systems that are below others, in user space, or on another
    machine nobody can rely on it.
    """
    return syncfs_tells_errors() and _kind(root) in _SYNCFS_IS_ENOUGH


def sync_file_system(fd: int) -> None:
    """Write all of a file system to its disk: files, and names.

    Raises:
        OSError: Something of it could not be written since `fd` was opened.
    """
    while _libc.syncfs(fd):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def make_directory(name: str, root: int, *, sync: bool = True) -> bool:
    """Make a directory below `root`, and make it last, if it is not there; unless the caller does so later."""
    try:
        os.mkdir(name, dir_fd=root)
    except FileExistsError:
        return False
    if sync:
        sync_directory(str(Path(name).parent), root)
    return True


def sync_directory(name: str, root: int) -> None:
    """Make the names in a directory below `root` last."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some FUSE file systems cannot, and have nothing to make last
            raise
    finally:
        os.close(fd)
