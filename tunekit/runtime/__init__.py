"""The shell: the only place that knows Ray, processes, threads and clocks."""
