"""The pure heart: events in, commands out. Nothing here touches Ray, clocks, threads, files or chance."""
