"""`npipes completion SHELL`: what a shell needs to complete commands, options and live names."""

import argparse

from npipes.cli.common import Commands, Failed, new_command

SHELLS = ("bash", "zsh", "fish", "powershell")


def add(commands: Commands) -> None:
    parser = new_command(
        commands,
        "completion",
        run,
        "print what makes a shell complete npipes' commands, options and the names of live pipes",
        """
eval "$(npipes completion bash)"                                  in ~/.bashrc
eval "$(npipes completion zsh)"                                   in ~/.zshrc, after compinit
npipes completion fish > ~/.config/fish/completions/npipes.fish
npipes completion powershell | Out-String | Invoke-Expression     in $PROFILE
""",
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        raise Failed("this needs argcomplete: pip install 'npipes-ipc[cli]'") from None
    print(shellcode(["npipes"], shell=args.shell), flush=True)
    return 0
