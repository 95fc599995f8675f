"""What a program's `__main__` defines arrives as it is there: by_value_program.py."""

import subprocess
import sys
import textwrap
from pathlib import Path

DEADLINE = 240


def run(*command):
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def test_everything_of_main():
    done = run(str(Path(__file__).with_name("by_value_program.py")))
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert said[-1].endswith(" cases, 0 failures") and len(said) == 1, done.stdout
    assert int(said[0].split()[0]) > 40


def test_threads_that_receive_a_class_first_at_once(tmp_path):
    """Whoever has an object of it finds its methods, though another makes the class."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import threading
            import atoll

            def make(number):
                class Fresh:
                    slot = [number] * 50
                    def answer(self):
                        return number
                for extra in range(100):
                    setattr(Fresh, f"extra_{extra}", extra)
                return Fresh()

            def receive(channel, results, threads):
                start = threading.Barrier(threads)
                def one():
                    start.wait()
                    for each in channel:
                        try:
                            results.send(each.answer() - each.slot[0])
                        except AttributeError as error:
                            results.send(str(error))
                workers = [threading.Thread(target=one) for _ in range(threads)]
                for worker in workers: worker.start()
                for worker in workers: worker.join()

            if __name__ == "__main__":
                channel = atoll.Channel(capacity=1000)
                results = atoll.Channel(capacity=1000)
                for number in range(100):
                    channel.send_many([make(number)] * 4)
                channel.close()
                with atoll.Interpreter() as there:
                    there.call(receive, channel, results, 4)
                results.close()
                got = list(results)
                print(set(got), len(got))
            """
        )
    )
    done = run(str(program))
    assert done.stdout.startswith("{0} 400"), done.stdout + done.stderr
