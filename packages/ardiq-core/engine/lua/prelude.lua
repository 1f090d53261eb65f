-- Prelude of every script: the clock, and the binary forms that more than one script reads or writes. What only some scripts need
-- stands in files of its own, since every function in front of a script is made anew at each call.
--
-- entry         one field: its name is the label, header (13 bytes) .. job id, its value the envelope. The header holds what the
--               protocol changes, the envelope what the producer wrote, which can be large and is never put together anew:
--               tries (low half, u16), deaths u8, misses u8, flags u8, tries (high half, u16), enqueue time u48; all big-endian.
--               Without tries the last two are written as one u64.
-- job record    kind (1 byte) .. nonce (8 bytes) .. rest:
--               q  in a stream: <entry id> <stream, without the queue's prefix>
--               d  in the due set: length of the stream's name (1 byte) .. stream .. header .. envelope
--               R  finished: result, msgpack
--               T  finished, result not stored, or beside the record because it ends before it: nothing
local HEADER, SUSPECT, APART, ALONE = 13, 1, 2, 4
-- How long at least a tombstone, the result of a lost job and what was set aside are kept.
local TOMBSTONE_MS, LOST_MS, ASIDE_MS = 30000, 300000, 604800000
local call, may, sub = redis.call, redis.acl_check_cmd, string.sub
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

