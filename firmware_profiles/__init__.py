"""Budgets, threads, power and thermal sources of each device family, one partial configuration (YAML) each."""
