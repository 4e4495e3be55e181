"""What the device's own rounds are compared with: each a `learner.Learner`, on the same student and the same images.

All are treated kindly: they train on every new image (a device holds a fifth of them out), batch norms keep their
statistics, and hyper-parameters are chosen on training images (`choice`).
"""
