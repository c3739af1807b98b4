/* What waiting interpreters run, as text that ends with a NUL: warm.py and warm.js. */
	.section .rodata
	.global warm_python
	.global warm_node
warm_python:
	.incbin "fcgi/warm.py"
	.byte 0
warm_node:
	.incbin "fcgi/warm.js"
	.byte 0
	.section .note.GNU-stack,"",@progbits
