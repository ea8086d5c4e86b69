"""Download PyPI distributions named in packages/pypi.txt without building anything.

`pip download --no-binary` runs every package's build back end just to read its
metadata; pip's own finder gives the file's address at once.
Usage: python fetch_pypi.py packages/pypi.txt OUT_DIR
"""
import os
import sys

from pip._internal.cli.req_command import RequirementCommand
from pip._internal.models.format_control import FormatControl
from pip._internal.models.selection_prefs import SelectionPreferences
from pip._internal.index.package_finder import PackageFinder


class _Command(RequirementCommand):
    def add_options(self):
        from pip._internal.cli import cmdoptions
        self.cmd_opts.add_option(cmdoptions.progress_bar())
        group = cmdoptions.make_option_group(cmdoptions.index_group, self.parser)
        self.parser.insert_option_group(0, group)


def main(list_file, out):
    os.makedirs(out, exist_ok=True)
    command = _Command("fetch", "fetch")
    options, _ = command.parse_args([])
    with command.main_context():
        download_all(command, options, list_file, out)


def download_all(command, options, list_file, out):
    session = command.get_default_session(options)
    from pip._internal.cli.req_command import LinkCollector
    collector = LinkCollector.create(session, options=options)
    for line in open(list_file):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, _, version = words[0].partition("==")
        kind = words[1] if len(words) > 1 else "wheel"
        sets = [FormatControl(set(), {":all:"})] if kind == "wheel" else [FormatControl({":all:"}, set())]
        sets.append(FormatControl(set(), set()))
        for control in sets:
            finder = PackageFinder.create(
                link_collector=collector,
                selection_prefs=SelectionPreferences(allow_yanked=False, format_control=control),
            )
            candidates = [c for c in finder.find_best_candidate(name).iter_applicable()
                          if not version or str(c.version) == version]
            if candidates:
                break
        else:
            print("missing", name, flush=True)
            continue
        best = max(candidates, key=lambda c: c.version)
        link = [c for c in candidates if c.version == best.version][-1].link
        target = os.path.join(out, link.filename)
        if os.path.exists(target):
            continue
        response = session.get(link.url_without_fragment, stream=True)
        if int(response.headers.get("content-length", 0)) > 80_000_000:
            print("too large", name, flush=True)
            continue
        with open(target + ".part", "wb") as f:
            for chunk in response.iter_content(1 << 16):
                f.write(chunk)
        os.rename(target + ".part", target)
        print(name, best.version, link.filename, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
