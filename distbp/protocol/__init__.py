"""The distributed algorithm in plain Python: messages, planning, recovery, Worker, ParameterServer. No ray here."""
