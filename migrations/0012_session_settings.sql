-- Settings that the functions for callers' sessions depend on, whatever those have set: how texts, numbers and times are written
-- and read, and how their statements are planned. The helpers that they call run under the same settings.
DO $$
DECLARE
    function text;
    setting text;
BEGIN
    FOREACH function IN ARRAY '{submit,submit_many,session_of,complete,fate_of}'::text[] LOOP
        FOREACH setting IN ARRAY ARRAY[
            'standard_conforming_strings = on', 'backslash_quote = safe_encoding', 'escape_string_warning = off',
            'transform_null_equals = off', 'array_nulls = on', 'quote_all_identifiers = off',
            'extra_float_digits = 1', 'bytea_output = hex',
            'datestyle = ''ISO, MDY''', 'intervalstyle = postgres', 'timezone = ''UTC''', 'timezone_abbreviations = ''Default''',
            'plan_cache_mode = auto', 'jit = off'
        ] LOOP
            EXECUTE format('ALTER FUNCTION taskd.%I SET %s', function, setting);
        END LOOP;
    END LOOP;
END
$$;
