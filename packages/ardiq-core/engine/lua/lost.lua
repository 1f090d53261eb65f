-- Included in scripts that can find a job that no worker can run.

-- Store a failed result for a job whose entry was deleted from outside ArdiQ, and return it for the
-- waiting callers. The id is free again.
local function lose(job_key, id, record, linked, releasing)
  local nonce = sub(record .. string.rep('\0', 8), NONCE, NONCE_END)
  local text = 'the job was lost: its entry was deleted from Redis before it had run'
  local lost = failure(id, nonce, text)
  call('SET', job_key, lost, 'PX', LOST_MS)
  depart(linked, releasing, id, lost, true)
  return lost
end

