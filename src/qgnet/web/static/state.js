// What the page knows: the server's answers, and what the user has chosen.

export const state = {
  images: new Map(), // key → as the server describes it
  classes: [],
  colours: [], // [r, g, b] of the classes, in turn
  maps: [], // names of the network's region maps
  chosen: {}, // class number → threshold that the user set
  learnt: {}, // class number → {threshold, expected} of the last run
  presence: 0,
  job: { running: false, done: 0, total: 0, error: "" },
  key: null, // of the image that is chosen
  shown: null, // of the one on the stage, which may still be the one before
  opening: 0, // counts, so that what arrives late for an earlier choice is left
  mask: null, // of the chosen image, once something is painted
  probabilities: null, // of the chosen image
  grown: null, // the mask with a stroke grown to the edge, which is shown before it is taken
  rough: false, // whether what is not painted is unknown, of the next mask
  counts: {}, // class number → single objects in the chosen image; empty while they are not known
  counting: 0, // counts, so that a count that arrives late is left
  view: "mask",
  number: 1, // of the class that is painted
  saves: new Map(), // key → {mask, dirty, timer, running}: masks that are not kept yet
};

/** The chosen image, as the server describes it. */
export const chosenImage = () => state.images.get(state.key);

/** Whether what is not painted in the chosen image is unknown. */
export const isRough = () => (state.mask ? state.mask.rough : state.rough);

/** What the brush without a class paints. */
export const nameOfOther = () => (isRough() ? "background" : "ignored");

export const nameOf = (number) => state.classes.find((one) => one.number === Number(number))?.name || nameOfOther();
