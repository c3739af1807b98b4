/* The OpenAPI document and its page, carried inside cgibox.fcgi. */
	.section .rodata
	.global cgibox_openapi_start
	.global cgibox_openapi_end
	.global cgibox_docs_start
	.global cgibox_docs_end
cgibox_openapi_start:
	.incbin "docs/openapi.json"
cgibox_openapi_end:
cgibox_docs_start:
	.incbin "docs/openapi.html"
cgibox_docs_end:
	.section .note.GNU-stack,"",@progbits
