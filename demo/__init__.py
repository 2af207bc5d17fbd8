"""A term week of a small class, played with nbgrader in a scratch copy of this course.

`__main__` tells the story, `students` says who does what, `commands` runs nbgrader.
"""
