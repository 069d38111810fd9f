-- Whoever mints, and the prompt for the images. To be filled in: the table's name, quoted and with its schema.
CREATE TABLE {authors} (
  id uuid DEFAULT gen_random_uuid() CONSTRAINT authors_pkey PRIMARY KEY,
  wallet_address varchar(42) CONSTRAINT authors_wallet_address_key UNIQUE,
  prompt_text text,
  created_at timestamptz NOT NULL DEFAULT now()
);
