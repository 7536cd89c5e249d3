-- Finds the tokens that are valid now, in one row, with whether there ever was one.
SELECT EXISTS (SELECT FROM taskd.tokens),
       coalesce((SELECT json_agg(json_build_object('id', id, 'name', name, 'digest', encode(digest, 'base64'),
                                                   'scopes', scopes, 'queues', queues, 'rate', rate))
                 FROM taskd.tokens
                 WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())), '[]')
