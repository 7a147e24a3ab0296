"""Plans: written and read again, with every option, damaged, built again, and in other runtimes."""
