"""What fastecho promises, tried in quantity: `make proof` and `make soak` write docs/reliability.md.

tests     the tests with the marker `proof`, run by pytest, as evidence
record    one JSON file for each kind of run: the evidence, the machine, the versions, the commit
machine   where a run took place, and with what
findings  what was found and mended, and what was not run: findings.toml, written by hand
promises  the evidence as lines of a table
fuzz      one target under coverage-guided fuzzing; fuzzing: a short run of each target, as evidence
mutation  changes in modules that their tests must notice; survivors.toml: those that may survive, and why
soak      hours of mixed load, every echoed byte compared
flakiness the suite again and again, in random order, on busy cores
page      docs/reliability.md, made of the records and the findings alone
"""
