" A chat: Markdown, with what was shown to the model set apart.

if exists('b:current_syntax')
  finish
endif

" No indented code: a reply's lists are deep, and what is indented in them is text.
runtime! syntax/markdown.vim
unlet! b:current_syntax

syntax match lspAssistShown /^▏ .*$/
syntax match lspAssistTurn /^# \%(You\>.*\|Assistant\)$/
syntax match lspAssistEnd /^\*.*\*$/

highlight default link lspAssistShown Comment
highlight default link lspAssistTurn Title
highlight default link lspAssistEnd WarningMsg

let b:current_syntax = 'lspassist'
