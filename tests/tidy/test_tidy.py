#!/usr/bin/python3
"""Tidy itself must be able to fail: a small tree with one mistake of each kind, and one without any."""
import pathlib
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tidy  # noqa: E402

ROOMS = "base|common/base|0||\nring|common/ring|3|base|liburing\nredis|common/redis|4|base;ring|hiredis\nbus|common/bus|4|base;ring|libzmq\nrouter|router|7|base;ring;redis;bus|\n"
GOOD = {
    "common/base/a.h": "/* A. */\n#ifndef JACKDAW_BASE_A_H\n#define JACKDAW_BASE_A_H\n\n/* Does a. */\nint a_do(void);\nint a_undo(void);\n\n"
    "/* A thing. */\nstruct a {\n    int x;\n};\n\nvoid a_put(struct a *a);\n\n#endif\n",
    "common/ring/r.h": "/* R. */\n#ifndef JACKDAW_RING_R_H\n#define JACKDAW_RING_R_H\n#endif\n",
    "common/ring/r.c": '#include <liburing.h>\n\n#include "common/base/a.h"\n#include "common/ring/r.h"\n',
    "common/redis/d.c": '#include <hiredis/hiredis.h>\n\n#include "common/ring/r.h"\n/* TODO(mia): later */\n',
    "router/main.c": '#include "common/redis/d.h"\n',
    "common/redis/d.h": "/* D. */\n#ifndef JACKDAW_REDIS_D_H\n#define JACKDAW_REDIS_D_H\n#endif\n",
    "tests/unit/base/test_a.c": '#include <cmocka.h>\n\n#include "common/base/a.h"\n',
}
HEADER = "/* B. */\n#ifndef JACKDAW_BASE_B_H\n#define JACKDAW_BASE_B_H\n\n%s\n\n#endif\n"


class Tidy(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="jackdaw-tidy-"))
        (self.root / "rooms.txt").write_text(ROOMS)
        shutil.copy(pathlib.Path(__file__).resolve().parents[2] / ".clang-format", self.root)
        for name, text in GOOD.items():
            self.put(name, text)

    def tearDown(self):
        shutil.rmtree(self.root)

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def expect(self, name, text, *words):
        """One file with one mistake gives exactly one finding with these words."""
        self.put(name, text)
        findings = tidy.check_all(self.root, tidy.read_rooms(self.root / "rooms.txt"))
        self.assertEqual(len(findings), 1, findings)
        for word in words:
            self.assertIn(word, findings[0])

    def test_good_tree(self):
        self.assertEqual(tidy.check_all(self.root, tidy.read_rooms(self.root / "rooms.txt")), [])

    def test_upward_include(self):
        self.expect("common/base/b.c", '#include "common/ring/r.h"\n', "common/base/b.c:1", "upward")

    def test_sideways_include(self):
        self.expect("common/bus/b.c", '#include "common/redis/d.h"\n', "sideways")

    def test_undeclared_include(self):
        self.put("rooms.txt", ROOMS.replace("|base;ring;redis;bus|", "|base;redis|"))
        self.expect("router/b.c", '#include "common/ring/r.h"\n', "undeclared")

    def test_relative_include(self):
        self.expect("common/ring/s.c", '#include "r.h"\n', "from the top")

    def test_feature_includes_feature(self):
        self.put("router/feature/x.h", HEADER % "/* X. */\nint x(void);")
        self.expect("router/feature/y.c", '#include "router/feature/x.h"\n', "never includes another feature")

    def test_foreign_header_in_the_wrong_room(self):
        self.expect("common/bus/b.c", "#include <hiredis/hiredis.h>\n", "<hiredis/hiredis.h>", "not by bus")

    def test_foreign_header_shown(self):
        self.expect("common/redis/d.h", GOOD["common/redis/d.h"].replace("#endif", "#include <hiredis/hiredis.h>\n#endif"), "hides its foreign")

    def test_code_outside_rooms(self):
        self.expect("common/other/x.c", "int x;\n", "no room")

    def test_undocumented_function(self):
        self.expect("common/base/b.h", HEADER % "int b_do(void);", "b_do has no comment")

    def test_undocumented_function_below_a_documented_one(self):
        self.expect("common/base/b.h", HEADER % "/* Does. */\nint b_do(void);\n\nchar *b_undo(void);", "b_undo has no comment")

    def test_undocumented_inline(self):
        self.expect("common/base/b.h", HEADER % "static inline int b_do(void)\n{\n    return 1;\n}", "b_do has no comment")

    def test_header_without_purpose(self):
        self.expect("common/base/b.h", (HEADER % "/* X. */\nint x(void);").removeprefix("/* B. */\n"), "opens with a comment")

    def test_header_without_guard(self):
        self.expect("common/base/b.h", "/* B. */\n", "no include guard")

    def test_long_file(self):
        self.expect("common/base/b.c", "int x;\n" * 801, "801 lines")

    def test_long_function(self):
        self.expect("common/base/b.c", "int b(void)\n{\n" + "    b();\n" * 81 + "}\n", "function of 81 lines")

    def test_todo_without_owner(self):
        self.expect("common/base/b.c", "/* TO" + "DO: later */\n", "needs an owner")

    def test_dead_code(self):
        self.expect("common/base/b.c", "#if 0\nint x;\n#endif\n", "dead code")

    def test_format(self):
        self.expect("common/base/b.c", "int  x;\n", "not formatted")

    def test_script_with_a_syntax_error(self):
        self.expect("deploy/x.py", "def x(:\n", "deploy/x.py:1")
        (self.root / "deploy/x.py").unlink()
        self.expect("deploy/x", "#!/bin/bash\nif true; then\n", "deploy/x")


if __name__ == "__main__":
    unittest.main(verbosity=1)
