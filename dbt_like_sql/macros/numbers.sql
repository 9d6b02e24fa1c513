/* Exact arithmetic on integers: microseconds and counts, never floats (M-106). All arguments are >= 0. */

-- num / den rounded half up to an integer; NULL for den = 0.
create or replace temp macro half_up(num, den) as
case when den > 0 then (2 * cast(num as hugeint) + cast(den as hugeint)) // (2 * cast(den as hugeint)) end;

-- num / den with 2 decimals, half up.
create or replace temp macro ratio2(num, den) as
cast(cast(half_up(100 * cast(num as hugeint), den) as decimal(36, 0)) * 0.01 as decimal(20, 2));

-- num / den with 3 decimals, half up.
create or replace temp macro ratio3(num, den) as
cast(cast(half_up(1000 * cast(num as hugeint), den) as decimal(35, 0)) * 0.001 as decimal(20, 3));

-- num / den with 4 decimals, half up.
create or replace temp macro ratio4(num, den) as
cast(cast(half_up(10000 * cast(num as hugeint), den) as decimal(34, 0)) * 0.0001 as decimal(20, 4));

-- Milliseconds with 3 decimals as microseconds, and back.
create or replace temp macro ms_to_us(ms) as cast(ms * 1000 as hugeint);
create or replace temp macro us_to_ms(us) as
cast(cast(us as decimal(35, 0)) * 0.001 as decimal(20, 3));

-- The same for one observation: up to 31 years, several times faster than 128-bit arithmetic.
create or replace temp macro observed_us(ms) as cast(cast(ms as decimal(15, 3)) * 1000 as bigint);

-- Microseconds of a span.
create or replace temp macro span_us(from_at, to_at) as epoch_us(to_at) - epoch_us(from_at);

-- A sum or count where its input is mapped (0 without rows), NULL where it is not (M-105, E-510).
create or replace temp macro if_mapped(mapped, number) as case when mapped then coalesce(number, 0) end;

-- M-451 on an ascending list of microseconds, in ms with 2 decimals; pct is a whole percentage.
create or replace temp macro percentile2(sorted, pct) as
case when len(sorted) > 0 then ratio2(
    100 * cast(sorted[(len(sorted) - 1) * pct // 100 + 1] as hugeint)
    + ((len(sorted) - 1) * pct % 100) * (
        sorted[least((len(sorted) - 1) * pct // 100 + 2, len(sorted))]
        - sorted[(len(sorted) - 1) * pct // 100 + 1]
    ),
    100000
) end;

-- M-453: index of a value in microseconds; -2147483648 stands for the bucket of exact zeros.
create or replace temp macro hist_index(us) as
case when us = 0 then -2147483648 else cast(ceil(ln(us / 1000.0) / ln(1.01 / 0.99)) as integer) end;

-- A map index -> count as JSON, ascending, with the key "zero" for exact zeros.
create or replace temp macro hist_json(counts) as
cast(replace(cast(to_json(counts) as varchar), '"-2147483648"', '"zero"') as json);

-- The order of M-317, and back. 0 is a row without any worker.
create or replace temp macro source_rank(name) as
case name when 'lifecycle' then 1 when 'snapshots' then 2 when 'current_state' then 3 when 'attempts' then 4 else 0 end;
create or replace temp macro source_name(rank) as
case rank when 1 then 'lifecycle' when 2 then 'snapshots' when 3 then 'current_state' when 4 then 'attempts' else 'none' end;
create or replace temp macro quality_rank(name) as
case name when 'exact' then 1 when 'bridged' then 2 when 'estimated' then 3 when 'unknown' then 4 end;
create or replace temp macro quality_name(rank) as
case rank when 1 then 'exact' when 2 then 'bridged' when 3 then 'estimated' when 4 then 'unknown' end;
/* The distribution of a bucket without executions (M-455). */
create or replace temp macro no_executions() as
cast('{"0-500":0,"500-1000":0,"1000-1500":0,"1500-2000":0,"2000-3000":0,"3000-5000":0,"5000+":0}' as json);
