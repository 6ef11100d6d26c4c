"""`file://` and `pvc://`: a directory with an object store's guarantees.

A checkpoint on a shared volume must survive a power cut and be read from another node while it is written. So a
file is written under a temporary name beside its place, synced, and then moved or linked there in one step; the
directory is synced after it. Creation links (`link(2)` fails when the name exists), which is atomic on local file
systems and NFS; where links are missing, `renameat2(RENAME_NOREPLACE)` does the same.
"""

import ctypes
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from .base import Entry, Names, Store, StoreOptions
from .digest import CHUNK
from .errors import AccessDenied, AlreadyExists, ArtifactError, InvalidUri, NotFound, clip
from .uri import TEMP_PREFIX, Uri

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_SYSTEM_DIR = "lost+found"
_FULL = {errno.ENOSPC, errno.EDQUOT}


def fsync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def translated(uri: str, action: str) -> Iterator[None]:
    """Operating system errors as this package's errors."""
    try:
        yield
    except FileNotFoundError as error:
        cause = clip(error.strerror or "no such file")
        raise NotFound(uri, action, cause, "check the path") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        cause = "a part of the path is a file" if isinstance(error, NotADirectoryError) else "it is a directory"
        kind = ArtifactError if action in ("write", "create") else NotFound
        raise kind(uri, action, cause, "choose another path") from error
    except OSError as error:
        cause = clip(error.strerror or str(error))
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "check the volume's access mode, and its owner against the pod's fsGroup"
            raise AccessDenied(uri, action, cause, advice) from error
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidUri(uri, action, cause, "shorten the path") from error
        advice = "free space or enlarge the volume" if error.errno in _FULL else "check the volume"
        raise ArtifactError(uri, action, cause, advice) from error


def _rename_new(source: Path, target: Path) -> None:
    """rename that fails with FileExistsError, for file systems without hard links."""
    at_cwd, no_replace = -100, 1
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None or rename(at_cwd, os.fsencode(source), at_cwd, os.fsencode(target), no_replace) != 0:
        code = ctypes.get_errno() if rename is not None else errno.ENOSYS
        if code in (errno.EINVAL, errno.ENOSYS):
            raise OSError(code, "the file system has neither hard links nor rename-without-replace")
        raise OSError(code, os.strerror(code))


def _link_new(source: Path, target: Path) -> None:
    """Give `source` the name `target`, failing with FileExistsError when that is taken."""
    try:
        os.link(source, target)
    except FileExistsError:
        if source.stat().st_nlink < 2:  # 2: NFS made the link, lost the answer and asked again
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_new(source, target)


class LocalStore(Store):
    """Objects are files below `root`."""

    def __init__(self, location: Uri, root: Path, options: StoreOptions) -> None:
        super().__init__(location, options)
        self.root = root

    def child(self, path: str) -> "LocalStore":
        path = self.checked(path, empty=True)
        return LocalStore(self.location.join(path), self.root / path, self.options)

    def _entry(self, path: str, info: os.stat_result) -> Entry:
        return Entry(path, info.st_size, None, datetime.fromtimestamp(info.st_mtime, UTC), self)

    def _walk(self, directory: Path, above: tuple[str, ...] = ()) -> Iterator[tuple[Path, os.stat_result]]:
        """Files with what their links point to: a model cache on a volume is made of symlinks."""
        real = os.path.realpath(directory)
        if real in above:
            raise OSError(errno.ELOOP, f"the symbolic link {directory.name} leads back above itself")
        try:
            children = list(os.scandir(directory))
        except (FileNotFoundError, NotADirectoryError):
            return
        for child in children:
            if child.name.startswith(TEMP_PREFIX) or child.name == _SYSTEM_DIR:
                continue
            try:
                info = child.stat()
            except FileNotFoundError:
                if child.is_symlink():
                    raise OSError(errno.ENOENT, f"the symbolic link {child.name} points nowhere") from None
                continue
            if stat.S_ISDIR(info.st_mode):
                yield from self._walk(Path(child.path), (*above, real))
            elif stat.S_ISREG(info.st_mode):
                yield Path(child.path), info

    def list(self, prefix: str = "") -> Iterator[Entry]:
        prefix = self.checked(prefix, empty=True)
        with translated(self.uri_of(prefix), "list"):
            found = [
                self._entry(file.relative_to(self.root).as_posix(), info)
                for file, info in self._walk(self.root / prefix)
            ]
        yield from sorted(found, key=lambda entry: entry.path)

    def list_dirs(self, prefix: str = "") -> Names:
        prefix = self.checked(prefix, empty=True)
        directory = self.root / prefix
        with translated(self.uri_of(prefix), "list"):
            children = list(directory.iterdir()) if directory.is_dir() else []
            names = [child.name for child in children if child.name != _SYSTEM_DIR and child.is_dir()]
            return sorted(name for name in names if next(self._walk(directory / name), None) is not None)

    def head(self, path: str) -> Entry:
        path = self.checked(path)
        with translated(self.uri_of(path), "look up"):
            info = (self.root / path).stat()
            if not stat.S_ISREG(info.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return self._entry(path, info)

    def open_read(self, path: str, start: int = 0, etag: str | None = None) -> Iterator[bytes]:
        path = self.checked(path)
        with translated(self.uri_of(path), "read"), (self.root / path).open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK):
                yield chunk

    def get_range(self, path: str, start: int, length: int) -> bytes:
        path = self.checked(path)
        with translated(self.uri_of(path), "read"), (self.root / path).open("rb") as file:
            file.seek(start)
            return file.read(max(0, min(length, os.fstat(file.fileno()).st_size - start)))

    def put_bytes(self, path: str, data: bytes) -> None:
        self._publish(path, [data], Path.replace, "write")

    def put_if_absent(self, path: str, data: bytes, *, patience: float | None = None) -> None:
        self._publish(path, [data], _link_new, "create")

    def write_stream(self, path: str, chunks: Iterable[bytes], size: int, *, in_flight: int) -> None:
        self._publish(path, chunks, Path.replace, "write")

    def _publish(self, path: str, chunks: Iterable[bytes], place: Callable[[Path, Path], object], action: str) -> None:
        path = self.checked(path)
        target = self.root / path
        with translated(self.uri_of(path), action):
            temp, file = self._open_temp(target.parent)
            try:
                with file:
                    for chunk in chunks:
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                try:
                    place(temp, target)
                except FileExistsError as error:
                    if target.is_dir():
                        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
                    cause = "there is an object of that name"
                    raise AlreadyExists(self.uri_of(path), action, cause, "it was left as it is") from error
            finally:
                temp.unlink(missing_ok=True)
            fsync_dir(target.parent)

    def _open_temp(self, directory: Path) -> tuple[Path, BinaryIO]:
        for _ in range(10):
            self._make(directory)
            temp = directory / f"{TEMP_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
            with suppress(FileNotFoundError):  # a concurrent delete pruned the empty directory
                return temp, temp.open("xb")
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _make(self, directory: Path) -> None:
        """mkdir -p with every new name synced."""
        if directory.is_dir():
            return
        self._make(directory.parent)
        try:
            directory.mkdir(exist_ok=True)
            fsync_dir(directory.parent)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
        except FileNotFoundError:  # pruned meanwhile; the caller tries again
            return

    def delete(self, path: str) -> None:
        path = self.checked(path)
        target = self.root / path
        with translated(self.uri_of(path), "delete"), suppress(FileNotFoundError, NotADirectoryError):
            target.unlink()
            fsync_dir(target.parent)
        self._prune(target.parent)

    def delete_tree(self, prefix: str) -> None:
        prefix = self.checked(prefix, empty=True)
        top = self.root / prefix
        oldest = time.time() - self.options.temp_age_s
        with translated(self.uri_of(prefix), "delete"):
            for directory, names, files in os.walk(top, topdown=False, followlinks=False):
                for name in files:
                    file = Path(directory, name)
                    with suppress(FileNotFoundError):
                        if not name.startswith(TEMP_PREFIX) or file.lstat().st_mtime <= oldest:
                            file.unlink()
                for name in names:
                    entry = Path(directory, name)
                    with suppress(OSError):  # not empty: somebody is writing there
                        entry.unlink() if entry.is_symlink() else entry.rmdir()
        self._prune(top)

    def _prune(self, directory: Path) -> None:
        """Empty directories are no objects: remove them up to the store's root."""
        while directory != self.root and directory.is_relative_to(self.root):
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent
