// What a node that waits runs, and below it one line that calls it; see warm.py. A file takes the place of standard
// input, because node has no dup2(2): the lowest number that is free is the one just closed.
//
//	how "text"	node -e CODE
//	    "file"	node FILE, which holds THIS until then; what it is replaced by is loaded as the main module once
//			nothing of ours is on the stack
((how, modules) => {
	const fs = require('fs'), vm = require('vm');

	const privatePages = () => {
		const pages = fs.readFileSync('/proc/self/statm', 'latin1').split(' ');
		return pages[1] - pages[2];
	};
	const exactly = n => {
		const all = Buffer.allocUnsafe(n);
		for (let at = 0, got; at < n; at += got) {
			got = fs.readSync(0, all, at, n - at, null);
			if (got === 0)
				process.reallyExit(0); // nobody wants us
		}
		return all;
	};
	const putInput = data => {
		const path = data ? `/tmp/.stdin-${process.pid}` : '/dev/null';
		if (data)
			fs.writeFileSync(path, data, {mode: 0o600, flag: 'wx'});
		fs.closeSync(0);
		if (fs.openSync(path, 'r') !== 0)
			process.reallyExit(70);
		if (data)
			fs.unlinkSync(path);
	};

	// The loader of import() says once that it is experimental, which no other way of running a script does.
	const loader = vm.constants?.USE_MAIN_CONTEXT_DEFAULT_LOADER, warn = process.emitWarning;
	if (loader && how === 'text') {
		process.emitWarning = () => {};
		vm.runInThisContext("import('node:process')", {importModuleDynamically: loader});
		process.emitWarning = warn;
	}
	for (const name of modules)
		require(name);
	fs.writeSync(1, `ready ${privatePages()}\n`);
	const [nargs, nenv, nstrings, ncode, ninput] = exactly(64).toString('latin1').trim().split(' ').map(Number);
	const strings = exactly(nstrings).toString().split('\0');
	const bytes = exactly(ncode), code = how === 'file' ? bytes : bytes.toString();
	putInput(ninput >= 0 ? exactly(ninput) : null);
	process.argv.push(...strings.slice(0, nargs));
	for (const variable of strings.slice(nargs, nargs + nenv)) {
		const at = variable.indexOf('=');
		process.env[variable.slice(0, at)] = variable.slice(at + 1);
	}
	if (how === 'file') {
		fs.writeFileSync(__filename, code);
		delete require.cache[__filename];
		const Module = require('module');
		return () => process.nextTick(Module.runMain.bind(Module, __filename));
	}
	process.execArgv[1] = code;
	return () => vm.runInThisContext(code, {
		filename: '[eval]',
		displayErrors: true,
		importModuleDynamically: loader,
	});
})