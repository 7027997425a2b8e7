"""`art-snn audit --cluster`: the cells of an audit on the workers of a Dask cluster, one of which dies."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from art_snn.audit import AuditSettings, run_audit

distributed = pytest.importorskip("distributed")

SETTINGS = AuditSettings(
    epochs=1, samples=40, time_steps=2, sweep=(), steps=4, chains=("hart", "rga"), plan="fast", repeats=2, checks=False
)


def test_a_worker_that_is_killed_costs_no_result(tmp_path):
    here = run_audit(SETTINGS, tmp_path / "here")
    folder, killed = tmp_path / "there", []
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        workers = [worker.pid for worker in cluster.workers.values()]

        def kill() -> None:
            while len(list((folder / "cells").glob("[!.]*.json"))) < 3:
                time.sleep(0.01)
            os.kill(workers[0], signal.SIGKILL)
            killed.append(len(list((folder / "cells").glob("[!.]*.json"))))

        watcher = threading.Thread(target=kill, daemon=True)
        watcher.start()
        there = run_audit(SETTINGS, folder, jobs=None, cluster=cluster.scheduler_address)
        watcher.join()
    assert killed and killed[0] < len(here.rows)  # it died midway
    assert there.rows == here.rows and there.search == here.search
    assert there.worst.fooled_by.tolist() == here.worst.fooled_by.tolist()


def test_a_cluster_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cluster 'tcp://127\.0\.0\.1:1' cannot be reached"):
        run_audit(SETTINGS, tmp_path, cluster="tcp://127.0.0.1:1")
