"""fastecho beside its peers: every server in one run, in turn, several rounds.

peers     the servers: how each is started and what it is expected to do
rows      the work, and the ratios the project holds itself to
process   a server process: started, pinned, asked for its CPU time and its memory, ended
measuring one cell: one server, one row, one round
plan      all cells of a run, in the order that keeps a slow drift of the machine out of the ratios
ratios    the statistics: ratios round by round, their median and spread
chart     the absolute numbers of the chart
machine   where it ran, and with what
record    the JSON file
terminal, markdown, plot     what people see; each is made of the record alone
"""
