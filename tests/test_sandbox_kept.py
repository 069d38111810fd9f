"""What the sandbox keeps of files, trainings, faults and names is bounded in bytes, and a form is read in one go."""

import hashlib
import json

import pytest
from test_sandbox import ask, buying

from reactor.sandbox import Sandbox, Timing

pytestmark = pytest.mark.anyio

INSTANT = Timing.instant()


async def test_little_is_kept_of_a_training():
    sandbox, path = Sandbox(INSTANT), f"/v1/models/{'a' * 9000}/{'b' * 9000}/versions/{'c' * 9000}/trainings"
    given = {"destination": "a/b", "input": {"input_images": "x" * 1_000_000}}

    assert (await ask(sandbox, "POST", path, json=given)).status_code == 201

    assert len((await ask(sandbox, "GET", "/v1/trainings")).content) < 5000


async def test_little_is_kept_of_a_file():
    sandbox, host = Sandbox(INSTANT), {"host": "h" * 9000}
    name, kind = "a" * 3000, f"text/{'b' * 3000}"

    answer = await ask(sandbox, "POST", "/v1/files", files={"content": (name, b"x", kind)}, headers=host)
    listed = (await ask(sandbox, "GET", "/v1/files")).json()["results"]

    assert answer.json()["urls"]["get"] == f"http://{'h' * 9000}/v1/files/{answer.json()['id']}"
    assert [(file["id"], file["name"], file["size"]) for file in listed] == [(answer.json()["id"], "a" * 500, 1)]
    assert len(json.dumps(listed)) < 2000


FORM = {"content-type": 'multipart/form-data; boundary="b"'}
HEADS = {
    "long": b"a" * 9_000_000,
    "folded": b"Content-Disposition: form-data" + b";\r\n a=b" * 1_000_000,
    "many": b"a: b\r\n" * 1_000_000,
    "parameters": b"Content-Disposition: form-data" + b";" * 9_000_000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_a_form_whose_parts_have_long_heads_is_refused_at_once(head):
    body = b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--\r\n"

    answer = await ask(Sandbox(INSTANT), "POST", "/v1/files", content=body, headers=FORM)

    assert (answer.status_code, answer.json()["detail"]) == (400, "a head of more than 8000 bytes")


@pytest.mark.parametrize(
    ("form_type", "body"),
    [
        ("", b"x"),
        ("multipart/form-data", b"--b\r\n\r\nx\r\n--b--"),
        (FORM["content-type"], b""),
        (FORM["content-type"], b"\xff--b--b"),
        (FORM["content-type"], b"--b\r\nContent-Disposition: form-data; name=other\r\n\r\nx\r\n--b--"),
        (FORM["content-type"], b"--b\r\n\r\n\r\n" * 700_000),
        (FORM["content-type"], b"--b\r\n" + b"(" * 7000 + b"\r\n\r\n--b--"),
        ("multipart/form-data; boundary=é", b"--b--"),
    ],
    ids=range(8),
)
async def test_a_form_without_a_content_is_refused(form_type, body):
    answer = await ask(
        Sandbox(INSTANT), "POST", "/v1/files", content=body, headers={"content-type": form_type.encode()}
    )

    assert (answer.status_code, answer.json()["detail"]) == (400, "Missing content")


@pytest.mark.parametrize("content", [b"", b"x", b"a\r\n\r\nb\r\n", b"\r\n--c\r\n", bytes(range(256))])
async def test_what_is_uploaded_is_taken_byte_by_byte(content):
    files = [("metadata", (None, b"{}", "application/json")), ("content", ("fox é.txt", content, "text/plain"))]

    answer = await ask(Sandbox(INSTANT), "POST", "/v1/files", files=files)

    assert answer.json()["checksums"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (answer.json()["size"], answer.json()["content_type"]) == (len(content), "text/plain")


@pytest.mark.parametrize("name", ["match", "text"])
async def test_a_fault_has_no_text_of_any_length(name):
    sandbox = Sandbox(INSTANT)

    statuses = [
        (await ask(sandbox, "POST", "/sandbox/faults", json={"kind": "failed", name: "x" * length})).status_code
        for length in (4000, 4001)
    ]

    assert (statuses, len(list(sandbox.faults))) == ([200, 422], 1)


async def test_predictions_of_models_with_long_names_are_fewer(monkeypatch):
    monkeypatch.setattr("reactor.sandbox.bounds.PREDICTIONS_BYTES", 100_000)
    sandbox = Sandbox(INSTANT)
    for _ in range(20):
        await ask(sandbox, "POST", f"/v1/models/{'a' * 15_000}/{'b' * 15_000}/predictions", json=buying())

    assert len(sandbox.ledger) <= 3
