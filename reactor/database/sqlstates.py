"""The codes of PostgreSQL's errors (SQLSTATE), by what they mean for a connection and for a statement."""

# The server shuts down, starts up or is full, or a time limit of the session is over.
LOST_STATES = {"57P01", "57P02", "57P03", "53300", "57P05", "25P03", "25P04"}
READ_ONLY = "25006"  # reconnect: to the primary, because a standby stays one, or after the freeze was lifted
# Classes of errors that are not about a row: something is missing, denied, full, timed out, or broken. All others
# (data, constraints, any code that a host's trigger raises) are the fault of a row, and would come again.
NOT_A_ROW = ("0A", "21", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58", "XX")
# Those of them that a host's trigger may raise because of a row: not supported, cardinality, privileges and names,
# prerequisites; and the limits for a lock or a statement, which may end within the trigger.
RAISED_BY_HOSTS = ("0A", "21", "42", "55000", "55006", "55P03", "57014")
DENIED = "42501"
# The server refuses a startup parameter of ours or in `options`: it has no such setting, or takes no such value, or not
# at the start of a session. It would refuse the same parameters at each try.
NEVER_HEALS = {"22023", "42601", "42704", "55P02"}
UNDEFINED = {"42P01", "42883", "42704"}  # a table, function or type that is not found
