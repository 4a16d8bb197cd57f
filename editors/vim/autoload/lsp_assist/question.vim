" A question as it is typed after :Q, and as it travels. Asks nothing itself.
"
"   [-sfbtpdnw] [@model] [/mode] question     in any order before the first other word; -- ends them

let s:FLAGS = {
      \ 's': 'selection', 'f': 'this file', 'b': 'open buffers', 't': 'tags of what is shown',
      \ 'p': 'the project', 'd': 'uncommitted changes', 'n': 'in a new chat', 'w': 'warm only'}

" What a flag stands for, by its letter.
function! lsp_assist#question#flags() abort
  return copy(s:FLAGS)
endfunction

" {flags: {letter: 1}, model, mode, text, error}
function! lsp_assist#question#parse(typed) abort
  let l:question = {'flags': {}, 'model': '', 'mode': '', 'text': substitute(a:typed, '^\s\+', '', ''), 'error': ''}
  while 1
    let l:word = matchstr(l:question.text, '^\S\+')
    if l:word =~# '^-\a\+$'
      for l:letter in split(l:word[1:], '\zs')
        if !has_key(s:FLAGS, l:letter)
          let l:question.error = printf('there is no flag -%s; use -%s, or -- before the question',
                \ l:letter, join(sort(keys(s:FLAGS)), ''))
          return l:question
        endif
        let l:question.flags[l:letter] = 1
      endfor
    elseif l:word =~# '^@.' && empty(l:question.model)
      let l:question.model = l:word[1:]
    elseif l:word =~# '^/.' && index(lsp_assist#models#modes(), l:word[1:]) >= 0 && empty(l:question.mode)
      let l:question.mode = l:word[1:]
    elseif l:word !=# '--'
      return l:question
    endif
    let l:question.text = substitute(l:question.text[len(l:word) :], '^\s\+', '', '')
    if l:word ==# '--'
      return l:question
    endif
  endwhile
endfunction

" The context spec of a question about what was `asked` (see lsp_assist#place#asked), and how the chat
" names it: {spec, labels, excerpt, selection}. Throws 'lsp-assist: ...' if nothing is selected.
function! lsp_assist#question#context(question, asked) abort
  let l:context = {'spec': {}, 'labels': [], 'excerpt': [], 'selection': {}}
  let l:asked = empty(a:asked) && has_key(a:question.flags, 's') ? lsp_assist#place#visual() : a:asked
  if has_key(a:question.flags, 's') && empty(l:asked)
    throw 'lsp-assist: nothing was selected in this buffer'
  endif
  if !empty(l:asked)
    call s:add_selection(l:context, l:asked)
  endif
  if has_key(a:question.flags, 'f')
    let l:file = lsp_assist#place#file_here()
    if l:file == -1
      throw 'lsp-assist: -f needs a window that shows a file'
    endif
    let l:context.spec.files = [lsp_assist#place#uri(l:file)]
    call add(l:context.labels, lsp_assist#place#shown(fnamemodify(bufname(l:file), ':p')))
  endif
  for [l:letter, l:name] in [['b', 'buffers'], ['t', 'tags'], ['p', 'project'], ['d', 'diff']]
    if has_key(a:question.flags, l:letter)
      let l:context.spec[l:name] = v:true
      call add(l:context.labels, s:FLAGS[l:letter])
    endif
  endfor
  return l:context
endfunction

function! s:add_selection(context, asked) abort
  let l:lines = getbufline(a:asked.bufnr, a:asked.line1, a:asked.line2)
  let l:name = bufname(a:asked.bufnr)
  let l:shown = empty(l:name) ? '[No Name]' : lsp_assist#place#shown(fnamemodify(l:name, ':p'))
  let l:to = a:asked.line2 > a:asked.line1 ? '-' .. a:asked.line2 : ''
  call add(a:context.labels, l:shown .. ':' .. a:asked.line1 .. l:to)
  let a:context.excerpt = l:lines
  if !empty(getbufvar(a:asked.bufnr, '&buftype'))
    " The text of a help page or a terminal is no document of the workspace.
    let a:context.spec.text = [{'title': l:shown, 'text': join(l:lines, "\n")}]
    return
  endif
  let a:context.selection = {'uri': lsp_assist#place#uri(a:asked.bufnr), 'range': lsp_assist#place#range(a:asked)}
  let a:context.spec.selection = a:context.selection
endfunction
