"""tenon chat on a terminal: editing, history, commands, several lines, Ctrl-C, Ctrl-D.

    python chat_pty.py TENON MODEL FOLDER
"""

import json
import os
import pty
import re
import select
import signal
import sys
import time

UP, LEFT, HOME = "\033[A", "\033[D", "\033[H"


class Terminal:
    def __init__(self, arguments):
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8")
            os.execv(arguments[0], arguments)
        self.text = ""

    def read(self, seconds):
        """What comes within that time, if anything; False: the other side is gone."""
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def wait(self, pattern, seconds=120):
        """The text up to what the pattern matches; that is taken away."""
        end = time.time() + seconds
        while time.time() < end:
            alive = self.read(0.1)
            m = re.search(pattern, self.text)
            if m:
                before, self.text = self.text[: m.start()], self.text[m.end() :]
                return before
            if not alive:
                break
        sys.exit("FAILED: no %r in %r" % (pattern, self.text))

    def type(self, text):
        os.write(self.fd, text.encode())

    def status(self):
        while self.read(10):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def plain(text):
    """Without what moves the cursor; of a line that is drawn again the last state."""
    lines = re.sub("\033\\[[0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n").split("\n")
    return "\n".join(line.split("\r")[-1] for line in lines)


PROMPT = "\r> \033\\[K$"


def main(tenon, model, folder):
    t = Terminal([tenon, "chat", model, "--template", "plain", "-n", "6", "--system", "Psalm", "--verbose"])
    t.wait("/help lists commands")
    t.wait(PROMPT)
    t.type("/help\r")
    assert "/system TEXT" in t.wait(PROMPT)
    t.type("/sav\r")
    assert "did you mean /save" in t.wait(PROMPT)

    # The line is put together with the keys: "ohne", then é in front, then a word taken away.
    t.type("hne xyz\x17" + HOME + "o" + "\x05" + "grün" + LEFT + "\x7f" + "ö\r")
    answer = plain(t.wait(PROMPT))
    assert "> ohne grön\n" in answer and "6 new tokens" in answer, answer
    t.type(UP + "!\r")
    assert "> ohne grön!\n" in plain(t.wait(PROMPT))
    t.type('two\\\rlines\r')
    assert "6 new tokens" in plain(t.wait(PROMPT))
    t.type('"""block\rof text"""\r')
    assert "6 new tokens" in plain(t.wait(PROMPT))

    path = os.path.join(folder, "saved.json")
    t.type("/save %s\r" % path)
    t.wait(PROMPT)
    with open(path, encoding="utf-8") as f:
        messages = json.load(f)
    users = [m["content"] for m in messages if m["role"] == "user"]
    assert users == ["ohne grön", "ohne grön!", "two\nlines", "block\nof text"], users
    assert [m["role"] for m in messages[:3]] == ["system", "user", "assistant"], messages
    t.type("/undo\r")
    t.wait(PROMPT)
    t.type("/retry\r")
    assert "6 new tokens" in plain(t.wait(PROMPT))
    t.type("/system Proverb\r")
    t.wait(PROMPT)
    t.type("/prompt\r")
    shown = plain(t.wait(PROMPT))
    assert "Proverb" in shown and "lines" in shown and "block" not in shown, shown
    t.type("/reset\r")
    t.wait(PROMPT)
    t.type("/prompt\r")
    assert "ohne" not in plain(t.wait(PROMPT))
    t.type("/load %s\r" % path)
    assert "9 messages" in plain(t.wait(PROMPT))
    t.type("half a line\x03")
    t.wait(PROMPT)
    t.type("\x04")
    assert t.status() == 0

    # Ctrl-C ends an answer and not the program; what was said stays.
    t = Terminal([tenon, "chat", model, "--template", "plain", "-n", "400", "--backend", "ref", "--verbose"])
    t.wait(PROMPT)
    t.type("In the beginning God created the heaven\r")
    t.wait(r"heaven\033\[K\r\n.{8}")
    os.kill(t.pid, signal.SIGINT)
    answer = plain(t.wait(PROMPT))
    assert "cancelled]" in answer, answer
    assert int(re.search("([0-9]+) new tokens", answer).group(1)) < 400, answer
    t.type("/prompt\r")
    assert "In the beginning" in plain(t.wait(PROMPT))
    t.type("/exit\r")
    assert t.status() == 0
    print("terminal: passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
