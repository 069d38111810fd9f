"""Subjects with their databases, and the provider that some of them speak to."""

from contextlib import ExitStack, contextmanager

from bench.child import Child


@contextmanager
def settled_in(bench, subjects):
    """Give a database's URL for each subject, by its name."""
    with ExitStack() as stack:
        urls = {}
        for subject in subjects:
            urls[subject.name] = stack.enter_context(bench.server.database())
            subject.install(urls[subject.name])
        yield urls


@contextmanager
def provided(kind="sandbox", **how):
    """Run a provider; give the process and its base URL."""
    with Child("bench.provider", kind=kind, **how) as provider:
        yield provider, provider.ask("url").strip('"')


def worker(subject, url, slots, base_url=None, authority=None):
    """The subject's process. `authority` is a file: whom to trust about the provider's name."""
    more = {"provider": base_url, "authority": authority} if subject.provider else {}
    more |= {"client": subject.client} if subject.client else {}
    return Child(subject.module, url=url, slots=slots, **more)
