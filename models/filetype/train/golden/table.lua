local M = {}

-- Returns a copy of t with fn applied to each value.
function M.map(t, fn)
  local out = {}
  for k, v in pairs(t) do
    out[k] = fn(v)
  end
  return out
end

function M.keys(t)
  local out = {}
  for k in pairs(t) do out[#out + 1] = k end
  table.sort(out)
  return out
end

return M
