"""A sweep over eps on a Dask cluster: here two processes of this machine, elsewhere any that Dask can reach.

    pip install '.[dask]' && python examples/dask_sweep.py

trains a small network on the embedded digits, audits it over five eps along three chains on the workers, and prints how
many workers there are, then the attack success rate of PGD, in percent, a row for each eps. The same audit without a
cluster gives the same numbers.
"""

from __future__ import annotations

import torch
from distributed import LocalCluster

from art_snn import PyTorchSNNClassifier, audit, datasets, models


def train() -> PyTorchSNNClassifier:
    """A small network that knows the digits."""
    torch.manual_seed(0)
    (x_train, y_train), _, low, high = datasets.digits(seed=0)
    network = models.small_cnn(time_steps=4)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    classifier = PyTorchSNNClassifier(
        network, torch.nn.CrossEntropyLoss(), (1, 8, 8), 10, optimizer, clip_values=(low, high)
    )
    classifier.fit(x_train, y_train, batch_size=64, nb_epochs=10)
    return classifier


def main() -> None:
    classifier = train()
    _, (x_test, y_test), _, _ = datasets.digits(seed=0)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        found = audit.run(
            classifier,
            x_test[:200],
            y_test[:200],
            eps=0.15,
            sweep=(0.05, 0.1, 0.2, 0.25),
            attacks=("pgd",),
            chains=("hart", "rga", "stbp"),
            gamma=1.0,
            cluster=cluster.scheduler_address,
            verbose=False,
        )
        print(f"{len(cluster.workers)} workers, {len(found)} cells")
    print(found.pivot(index="eps", columns="chain", values="asr").round(1).to_string())


if __name__ == "__main__":
    main()
