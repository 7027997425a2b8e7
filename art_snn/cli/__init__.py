"""The `art-snn` command."""

from __future__ import annotations

import click

from art_snn._version import __version__
from art_snn.cli import audit, compare, suite, train, verify
from art_snn.cli.program import Program


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="art-snn")
def main() -> None:
    """Attacks on spiking neural networks, through the Adversarial Robustness Toolbox."""


main.add_command(audit.audit)
main.add_command(compare.compare)
main.add_command(suite.suite)
main.add_command(train.train)
main.add_command(verify.verify)
