"""Giving up the privileges of root for good: `--user` and `--group`.

The supervisor gives them up between the bind and the first fork, so every worker begins without them, also one of a
later rolling restart. The modules that a worker imports late are imported here: the folder of an installation may be
closed to the user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import importlib
import logging
import os
import pwd
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ConfigError, PermissionDeniedError, TLSError
from .platform import keep_death_signal, refuse_new_privileges

if TYPE_CHECKING:
    from ..config import ServerConfig

__all__ = ["Identity", "check_files", "drop_privileges", "resolve_identity"]

_WORKER_MODULES = ("uvloop", "ssl", "encodings.idna", "fastecho._injection")

_log = logging.getLogger("fastecho")


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """The user, the group and the supplementary groups of a process."""

    name: str
    uid: int
    gid: int
    groups: frozenset[int]


def resolve_identity(config: ServerConfig) -> Identity | None:
    """The identity that `user` and `group` name, by names or numbers; None without a `user`.

    Raises:
        ConfigError: there is no such user or group, or the user is root.
        PermissionDeniedError: the process is not root, so it cannot change its user.
    """
    if config.user is None:
        return None
    if os.geteuid() != 0:
        raise PermissionDeniedError(f"user {config.user}: only root may change the user of the process")
    try:
        user = _user(config.user)
    except KeyError:
        raise ConfigError("user", config.user, "must be a user of this system") from None
    uid = user.pw_uid if user is not None else int(config.user)
    if uid == 0:
        raise ConfigError("user", config.user, "must be another user than root")
    if config.group is not None:
        try:
            gid = _gid(config.group)
        except KeyError:
            raise ConfigError("group", config.group, "must be a group of this system") from None
    elif user is not None:
        gid = user.pw_gid
    else:
        raise ConfigError("user", config.user, "must have an entry on this system, or a group beside it")
    groups = os.getgrouplist(user.pw_name, gid) if user is not None else [gid]
    return Identity(config.user, uid, gid, frozenset(groups))


def drop_privileges(identity: Identity) -> None:
    """Become `identity`, and make sure that there is no way back.

    Raises:
        PermissionDeniedError: the system refuses, or root's privileges could be had again.
    """
    for name in _WORKER_MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    try:
        with keep_death_signal():
            os.setgroups(sorted(identity.groups))
            if hasattr(os, "setresuid"):
                os.setresgid(identity.gid, identity.gid, identity.gid)
                os.setresuid(identity.uid, identity.uid, identity.uid)
            else:  # of root, these two set all ids
                os.setgid(identity.gid)
                os.setuid(identity.uid)
    except OSError as error:
        raise PermissionDeniedError(f"user {identity.name}: cannot be changed to: {error.strerror}") from None
    refuse_new_privileges()
    if not _has_become(identity) or _can_be_undone(identity):
        raise PermissionDeniedError(f"user {identity.name}: the privileges of root are not gone")
    shown = ", ".join(map(str, sorted(identity.groups)))
    _log.info("running as %s (uid %d, gid %d, groups %s)", identity.name, identity.uid, identity.gid, shown)


def check_files(config: ServerConfig, identity: Identity) -> None:
    """Raises TLSError for a file that the process may not read: each new worker reads it again."""
    for option in ("tls_cert", "tls_key", "tls_client_ca"):
        path = getattr(config, option)
        if path is not None and os.path.exists(path) and not os.access(path, os.R_OK):
            raise TLSError(f"{option} {path}: must be readable by the user {identity.name}, as each worker reads it")


def _user(name: str) -> pwd.struct_passwd | None:
    """The entry of a user; None for a number that has none."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        if not (name.isascii() and name.isdigit()):
            raise
    try:
        return pwd.getpwuid(int(name))
    except KeyError:
        return None


def _gid(name: str) -> int:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        if not (name.isascii() and name.isdigit()):
            raise
        return int(name)


def _has_become(identity: Identity) -> bool:
    if hasattr(os, "getresuid"):
        ids = (*os.getresuid(), *os.getresgid())
        if ids != (identity.uid,) * 3 + (identity.gid,) * 3:
            return False
    elif (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) != (identity.uid,) * 2 + (identity.gid,) * 2:
        return False
    # macOS shows at most 16 groups; no system shows one that the process has not.
    return set(os.getgroups()) <= identity.groups


def _can_be_undone(identity: Identity) -> bool:
    """Try to become root again, in each of the ways there are."""
    groups = sorted(identity.groups)
    ways: list[Callable[[], None]] = [lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setgroups(groups)]
    if identity.gid != 0:
        ways += [lambda: os.setgid(0), lambda: os.setegid(0)]
    for way in ways:
        try:
            way()
        except PermissionError:
            continue
        return True
    return False
