-- Parts of the statements by which a leader writes: each holds only while the leader's term does.

-- name: this_term
-- The row of the term, for a statement that changes that row itself.
shard = %(shard)s AND epoch = %(epoch)s AND holder = %(holder)s

-- name: term_fence
-- One row while the term holds. The lock keeps a successor from taking over before this statement has committed.
SELECT 1 FROM taskd.leader WHERE {{this_term}} FOR SHARE
