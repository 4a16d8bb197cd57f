--- A question as it is typed after :Q, and as it travels. Asks nothing itself.
---
---   [-sfbtpdnw] [@model] [/mode] question     in any order before the first other word; -- ends them

local place = require('lsp_assist.place')

local M = {}

M.FLAGS = {
  s = 'selection',
  f = 'this file',
  b = 'open buffers',
  t = 'tags of what is shown',
  p = 'the project',
  d = 'uncommitted changes',
  n = 'in a new chat',
  w = 'warm only',
}

---@class lsp_assist.Question
---@field flags table<string, boolean>
---@field model string
---@field mode string
---@field text string
---@field error? string

---@class lsp_assist.Context what a question is about, and how the chat names it
---@field spec table as it travels
---@field labels string[]
---@field excerpt string[]

--- What was typed, in its parts.
---@param typed string
---@param modes string[] that a `/word` may name
---@return lsp_assist.Question
function M.parse(typed, modes)
  local question = { flags = {}, model = '', mode = '', text = vim.trim(typed) }
  while true do
    local word = question.text:match('^%S+') or ''
    if word:match('^%-%a+$') then
      for letter in word:sub(2):gmatch('.') do
        if not M.FLAGS[letter] then
          local all = table.concat(M.letters())
          question.error = ('there is no flag -%s; use -%s, or -- before the question'):format(letter, all)
          return question
        end
        question.flags[letter] = true
      end
    elseif word:match('^@.') and question.model == '' then
      question.model = word:sub(2)
    elseif word:match('^/.') and question.mode == '' and vim.tbl_contains(modes, word:sub(2)) then
      question.mode = word:sub(2)
    elseif word ~= '--' then
      return question
    end
    question.text = question.text:sub(#word + 1):gsub('^%s+', '')
    if word == '--' then
      return question
    end
  end
end

--- The letters of the flags, in order.
---@return string[]
function M.letters()
  local letters = vim.tbl_keys(M.FLAGS)
  table.sort(letters)
  return letters
end

--- What the question is about, beside its text; nil and why if there is no such thing.
---@param question lsp_assist.Question
---@param asked lsp_assist.Asked|nil
---@param server { encoding: string, folders: string[] }
---@return lsp_assist.Context|nil, string|nil
function M.context(question, asked, server)
  local context = { spec = {}, labels = {}, excerpt = {} }
  asked = asked or (question.flags.s and place.visual() or nil)
  if question.flags.s and not asked then
    return nil, 'nothing was selected in this buffer'
  elseif asked then
    M._add_selection(context, asked, server)
  end
  if question.flags.f then
    local name = vim.api.nvim_buf_get_name(0)
    if vim.bo.buftype ~= '' or name == '' then
      return nil, '-f needs a buffer that is a file'
    end
    context.spec.files = { vim.uri_from_bufnr(0) }
    table.insert(context.labels, place.shown(name, server.folders))
  end
  for _, flag in ipairs({ { 'b', 'buffers' }, { 't', 'tags' }, { 'p', 'project' }, { 'd', 'diff' } }) do
    if question.flags[flag[1]] then
      context.spec[flag[2]] = true
      table.insert(context.labels, M.FLAGS[flag[1]])
    end
  end
  return context
end

function M._add_selection(context, asked, server)
  local lines = vim.api.nvim_buf_get_lines(asked.bufnr, asked.first - 1, asked.last, false)
  local name = vim.api.nvim_buf_get_name(asked.bufnr)
  local shown = name == '' and '[No Name]' or place.shown(name, server.folders)
  local to = asked.last > asked.first and '-' .. asked.last or ''
  table.insert(context.labels, shown .. ':' .. asked.first .. to)
  context.excerpt = lines
  if vim.bo[asked.bufnr].buftype ~= '' or name == '' then
    -- The text of a help page or a terminal is no document of the workspace.
    context.spec.text = { { title = shown, text = table.concat(lines, '\n') } }
  else
    context.spec.selection = {
      uri = vim.uri_from_bufnr(asked.bufnr),
      range = place.range(asked, server.encoding),
    }
  end
end

return M
