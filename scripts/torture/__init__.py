"""Random faults on the real processes under load, and an independent ledger of what they promised: scripts/torture.sh.

    clients    threads that post heartbeats, send again what was not answered 202, and keep the ledger
    fleet      the processes of a round, each started again when it dies
    faults     what is done to them, and undone
    schedule   which fault when: rolled from the seed before the round begins
    judge      the ledger against the published files, by DuckDB; the books and the files by Systole itself
    round      one round on one buffer, from the first process to the verdict
"""
