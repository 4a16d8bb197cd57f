--- What the user is told in the message line. Never while something is being typed there: a message
--- waits until the command line is free. Also keeps a log for |:checkhealth|.

local M = {}

local MAX_LINES = 200

local waiting = {} ---@type { [1]: string, [2]: integer }[]
local log = {} ---@type string[]

---@param text string
function M.info(text)
  M.tell(text, vim.log.levels.INFO)
end

---@param text string
function M.warning(text)
  M.tell(text, vim.log.levels.WARN)
end

---@param text string
function M.error(text)
  M.tell(text, vim.log.levels.ERROR)
end

--- Keeps a line for the doctor.
---@param line string
function M.log(line)
  table.insert(log, os.date('%H:%M:%S ') .. line)
  if #log > MAX_LINES then
    table.remove(log, 1)
  end
end

---@return string[]
function M.logged()
  return vim.deepcopy(log)
end

---@param text string
---@param level integer
function M.tell(text, level)
  -- More than fits the line would stop the user with "Press ENTER".
  local line = 'lsp-assist: ' .. text:gsub('%c+', ' ')
  local room = math.max(20, vim.o.columns - 13) + math.max(0, vim.o.cmdheight - 1) * vim.o.columns
  if vim.fn.strdisplaywidth(line) > room then
    M.log(text)
    line = vim.fn.strcharpart(line, 0, room - 1) .. '…'
  end
  table.insert(waiting, { line, level })
  M._flush()
end

--- Says what waits, now or when the command line has been left.
function M._flush()
  if vim.fn.mode():sub(1, 1) ~= 'c' then
    local said = waiting
    waiting = {}
    for _, one in ipairs(said) do
      vim.notify(one[1], one[2])
    end
  else
    local group = vim.api.nvim_create_augroup('lsp_assist_notice', {})
    vim.api.nvim_create_autocmd('ModeChanged', {
      group = group,
      pattern = 'c*:*',
      once = true,
      callback = vim.schedule_wrap(M._flush),
    })
  end
end

return M
