"""One command for each figure that Parler promises, such as `python -m benchmarks.wake`.

`common` is what all of them share, `filling` makes long rooms, and `peers` runs what a user would pick instead. Not
here: assertions. A benchmark prints figures beside their floors, and a person compares them. README.md says what was
measured and where time and memory go.
"""
