"""What runs, in which order: the DAG, its recipes and the `yanshan` command. No machine learning here."""
