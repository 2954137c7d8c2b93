"""The ``tunekit`` command. Each subcommand imports what it needs when it runs, so that ``--help`` is instant."""
