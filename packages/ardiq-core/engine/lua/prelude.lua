-- Prelude of every script: the clock, and the binary forms that several scripts read or write.
-- Functions that only some scripts need have files of their own, because every call creates all
-- functions of its script again.
--
-- entry         one field. Its name is the label: header (13 bytes) .. job id. Its value is the
--               envelope, exactly as the producer wrote it: it can be large, so no script rebuilds
--               it. Scripts change only the header: tries (low half, u16), deaths u8, misses u8,
--               flags u8, tries (high half, u16), enqueue time u48; all big-endian. If there are no
--               tries, the last two are written as one u64.
-- job record    kind (1 byte) .. nonce (8 bytes) .. rest:
--               q  in a stream: <entry id> <stream, without the queue's prefix>
--               d  in the due set: length of the stream's name (1 byte) .. stream .. header ..
--                  envelope
--               R  finished: result, msgpack
--               T  finished: nothing; the result is not stored, or has its own key because it
--                  expires before the record
local HEADER, SUSPECT, SEPARATE_BODY, ALONE, NOTES = 13, 1, 2, 4, 16
-- A job that waits for others has this flag, and this due time: half a millisecond after the latest
-- that a caller may choose.
local WAITS, NOT_YET = 32, '253402300799999.5'
-- How `struct` packs a header, and the header of a job that has not run.
local HEADER_FORMAT, NEW_HEADER_FORMAT = '>HBBBHI6', '>HBBBI8'
-- Positions in a record: the first and last byte of the nonce, and the first byte of the rest. The
-- nonce of an envelope has the same positions.
local NONCE, NONCE_END, REST = 2, 9, 10
-- Lifetimes: the minimum for a tombstone (record `T`), then those of a lost job's result and of a
-- key that was set aside.
local TOMBSTONE_MS, LOST_MS, ASIDE_MS = 30000, 300000, 604800000
-- The time for a worker to renew a lease that was deleted by hand.
local RENEWAL_MS = 60000
local call, sub = redis.call, string.sub
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

