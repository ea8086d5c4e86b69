" Vim syntax file
" Language: pocket lists
if exists("b:current_syntax")
  finish
endif

syn case ignore
syn keyword pocketTodo contained TODO FIXME
syn match pocketComment "#.*$" contains=pocketTodo
syn region pocketString start=+"+ skip=+\\"+ end=+"+
syn match pocketNumber "\<\d\+\>"

hi def link pocketComment Comment
hi def link pocketString String
hi def link pocketNumber Number

let b:current_syntax = "pocket"
