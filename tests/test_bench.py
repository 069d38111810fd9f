from bench.workers.ours import NoOp

from reactor.providers import Provider


def test_the_provider_of_the_bench_has_all_that_a_worker_asks_for():
    asked = {name for name in vars(Provider) if not name.startswith("_")}

    assert asked - set(dir(NoOp)) == set()
