"""For tests of sweeps and of one's own parts: contract suites, fakes and strategies."""
