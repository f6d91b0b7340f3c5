"""One silent, typed function per subcommand, for scripts and notebooks."""
