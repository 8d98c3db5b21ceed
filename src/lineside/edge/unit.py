"""The systemd unit of the agent (systemd.service(5)), as text to be put where systemd looks."""

from pathlib import Path

from lineside.core import InvalidError

_TEXT = """\
[Unit]
Description=lineside edge agent
Documentation=man:systemd.service(5)
After=network.target time-sync.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={program} edge --config {config}
Environment=OMP_NUM_THREADS=1 MALLOC_ARENA_MAX=2
User={user}
SupplementaryGroups=video
Restart=always
RestartSec=2
WatchdogSec=60
TimeoutStopSec=60
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ReadWritePaths={data}
PrivateTmp=no
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""


def unit_file(*, program: Path, config: Path, data: Path, user: str) -> str:
    """The unit; every path is absolute.

    Args:
        program: the ``lineside`` command.
        config: the agent's TOML file.
        data: its ``data_dir``, the only place it writes to.
        user: that it runs as.

    Raises:
        InvalidError: a path or name that cannot stand in a unit.
    """
    for word in (str(program), str(config), str(data), user):
        if not word.isprintable() or any(letter in word for letter in " \"'%\\$") or not word:
            raise InvalidError(
                f"{word!r} cannot stand in a unit",
                where="unit",
                fix="Use a path without spaces, quotes, '%', '$' and backslashes.",
            )
    absolute = {
        name: path.absolute()
        for name, path in (("program", program), ("config", config), ("data", data))
    }
    return _TEXT.format(**absolute, user=user)
