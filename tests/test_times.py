import math

import pytest

from reactor.providers.times import duration_of

START = "2026-11-28T12:00:00.250Z"


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ({"created_at": START, "completed_at": "2026-11-28T12:00:01.750123456Z"}, 1.500123),
        ({"created_at": START, "completed_at": "2026-11-28T13:00:01.750+01:00"}, 1.5),
        ({"created_at": START, "completed_at": "2026-11-28T12:00:01.750"}, 1.5),  # no time zone
        ({"created_at": START, "completed_at": START, "metrics": {"predict_time": 3.0}}, 0.0),
        ({"created_at": START, "completed_at": "2026-11-28T12:00:00Z"}, None),  # completed before it was created
        ({"created_at": START, "completed_at": "2026-11-29T12:00:01Z"}, None),  # more than a day later
        ({"created_at": START, "completed_at": None, "metrics": {"total_time": 2, "predict_time": 1}}, 2),
        ({"created_at": "yesterday", "completed_at": START, "metrics": {"predict_time": 0.5}}, 0.5),
        ({"created_at": 7, "completed_at": [START], "metrics": {"total_time": math.nan, "predict_time": -1.0}}, None),
        ({"metrics": {"total_time": math.inf, "predict_time": True}}, None),
        ({"metrics": {"total_time": "2", "predict_time": 10**400}}, None),
        ({"metrics": [2.0]}, None),
        ({}, None),
    ],
)
def test_times_that_are_missing_or_absurd_are_ignored(told, seconds):
    assert duration_of(told) == pytest.approx(seconds)
