"""The networks as plain modules: they know neither Lightning nor files nor data sets."""
