-- What a look keeps of a token: columns. See looked.sql.
{key} AS key,
{listed} AS place,
($1::text IS NULL OR lower(left(token.status::text, 63) COLLATE "C") = $1::text) AND {parts/matches} AS wanted,
left(token.generation_error::text, 300) COLLATE "C" AS error
