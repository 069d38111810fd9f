"""Every write to a token, except renewals, with the process that wrote it. A trigger of the torture records them."""

from dataclasses import dataclass

import asyncpg

# A worker's connections carry its number as a setting, given in its DATABASE_URL.
PROCESS = "torture.process"
CREATE = f"""
CREATE SCHEMA torture;
CREATE TABLE torture.history (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
  process integer, token_id bigint NOT NULL,
  old_status text, new_status text, old_epoch bigint, new_epoch bigint, old_worker bigint, new_worker bigint,
  old_prediction text, new_prediction text, old_seed integer, new_seed integer, attempts integer, error text
);
CREATE FUNCTION torture.keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO torture.history (
    process, token_id, old_status, new_status, old_epoch, new_epoch, old_worker, new_worker,
    old_prediction, new_prediction, old_seed, new_seed, attempts, error
  ) VALUES (
    nullif(current_setting('{PROCESS}', true), '')::integer, NEW.token_id, OLD.status, NEW.status,
    OLD.generation_epoch, NEW.generation_epoch, OLD.generation_worker, NEW.generation_worker,
    OLD.generation_prediction_id, NEW.generation_prediction_id, OLD.generation_seed, NEW.generation_seed,
    NEW.generation_attempts, NEW.generation_error
  );
  RETURN NULL;
END $$;
CREATE TRIGGER keep_history AFTER UPDATE ON tokens_s0 FOR EACH ROW
WHEN (
  (OLD.status, OLD.generation_epoch, OLD.generation_worker, OLD.generation_prediction_id, OLD.generation_seed)
  IS DISTINCT FROM
  (NEW.status, NEW.generation_epoch, NEW.generation_worker, NEW.generation_prediction_id, NEW.generation_seed)
) EXECUTE FUNCTION torture.keep();
"""
_COLUMNS = """extract(epoch FROM at)::double precision AS at, process, token_id, old_status, new_status, old_epoch,
  new_epoch, old_worker, new_worker, old_prediction, new_prediction, old_seed, new_seed, attempts, error"""


@dataclass(frozen=True, slots=True)
class Write:
    """One row of the history. `process` is None if the writer is none of our workers."""

    at: float
    process: int | None
    token_id: int
    old_status: str
    new_status: str
    old_epoch: int
    new_epoch: int
    old_worker: int | None
    new_worker: int | None
    old_prediction: str | None
    new_prediction: str | None
    old_seed: int | None
    new_seed: int | None
    attempts: int
    error: str | None

    def __str__(self):
        holder = f" held by {abs(self.new_worker) % 10000:04}" if self.new_worker else ""
        seed = "" if self.new_seed == self.old_seed else f" seed {self.old_seed} -> {self.new_seed}"
        bought = "" if self.new_prediction == self.old_prediction else f" bought {self.new_prediction}"
        error = f" ({self.error})" if self.error else ""
        return (
            f"{self.at:.3f} process {self.process}: {self.old_status} -> {self.new_status} epoch {self.old_epoch} -> "
            f"{self.new_epoch}{holder}{seed}{bought} attempts {self.attempts}{error}"
        )


async def create(url):
    connection = await asyncpg.connect(url)
    await connection.execute(CREATE)
    await connection.close()


async def read(url):
    """All tokens by token_id, and each one's history in order."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT token_id, status, image_url, generation_error, generation_prediction_id, generation_rescues"
        " FROM tokens_s0"
    )
    tokens = {row["token_id"]: dict(row) for row in rows}
    history = {token_id: [] for token_id in tokens}
    for row in await connection.fetch(f"SELECT {_COLUMNS} FROM torture.history ORDER BY id"):
        history[row["token_id"]].append(Write(**row))
    await connection.close()
    return tokens, history
