"""`mailraft completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from cli.output import CommandError

_WHERE = {
    "bash": 'eval "$(mailraft completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(mailraft completion zsh)"  in ~/.zshrc',
    "fish": "mailraft completion fish | source  in ~/.config/fish/config.fish",
}


@click.command(epilog="\b\n" + "\n".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(list(_WHERE)))
def completion(shell: str) -> None:
    """Print the completion script of a shell."""
    from cli.main import main

    kind = get_completion_class(shell)
    if kind is None:
        raise CommandError(f"there is no completion for {shell}")
    # not source(), which refuses without an installed bash; the script itself needs nothing
    script = kind(main, {}, "mailraft", "_MAILRAFT_COMPLETE")
    click.echo(script.source_template % script.source_vars())
